"""A model of OpenVLA's layout that is tiny: image patches behind the first token, then a Llama. It travels as remote code."""

import torch
from transformers import LlamaConfig, LlamaForCausalLM, PretrainedConfig, PreTrainedModel


class TinyVLAConfig(PretrainedConfig):
    model_type = "tiny_vla"

    def __init__(self, text_config=None, norm_stats=None, pad_to_multiple_of=64, patch_px=8, **kwargs):
        self.text_config = LlamaConfig(**(text_config or {}))
        self.norm_stats, self.pad_to_multiple_of, self.patch_px = norm_stats, pad_to_multiple_of, patch_px
        super().__init__(**kwargs)


class TinyVLA(PreTrainedModel):
    config_class = TinyVLAConfig

    def __init__(self, config):
        super().__init__(config)
        self.vision = torch.nn.Conv2d(3, 16, config.patch_px, config.patch_px)
        self.projector = torch.nn.Linear(16, config.text_config.hidden_size)
        self.language_model = LlamaForCausalLM(config.text_config)

    def get_input_embeddings(self):
        return self.language_model.get_input_embeddings()

    def get_output_embeddings(self):
        return self.language_model.get_output_embeddings()

    def forward(self, input_ids, attention_mask, pixel_values):
        patches = self.projector(self.vision(pixel_values).flatten(2).transpose(1, 2))
        words = self.language_model.get_input_embeddings()(input_ids)
        embeddings = torch.cat([words[:, :1], patches, words[:, 1:]], dim=1)
        mask = torch.cat(
            [attention_mask[:, :1], torch.ones_like(patches[..., 0], dtype=torch.long), attention_mask[:, 1:]], dim=1
        )
        return self.language_model(inputs_embeds=embeddings, attention_mask=mask, use_cache=False)
