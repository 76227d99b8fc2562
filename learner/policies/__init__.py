"""Policy classes: one file each, with sample and supervised_loss."""
