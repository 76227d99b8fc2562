"""Commands about cameras: `etude camera list`, `etude camera preview`. Neither moves a robot nor changes a setting."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from actor.cameras import Camera, Picture, as_seen, fits
from etude.config import ConfigError, RobotConfig, build, read_named
from etude.config.hardware import CameraConfig, FrankaConfig

FRAME_BGR = (80, 220, 60)


def camera_list(argv: Sequence[str]) -> int:
    """`etude camera list`: the RealSense cameras on this computer's USB."""
    parser = argparse.ArgumentParser(
        prog="etude camera list",
        description="List the RealSense cameras that are connected to this computer, by serial number.",
        epilog="example:\n  etude camera list",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.parse_args(argv)
    from actor.cameras.realsense import connected

    found = connected()
    for camera in found:
        print(f"{camera.serial}  {camera.name}, firmware {camera.firmware or 'unknown'}, USB {camera.usb or 'unknown'}")
        if camera.usb.startswith("2"):
            print("  its link is USB 2: two colour streams may not fit; use a USB 3 cable and port")
    if not found:
        print("no RealSense camera is connected (other cameras come over ROS topics: name them under the robot's cameras)")
        return 1
    print("in the robot's YAML:  cameras: {front: {realsense: {serial: '" + found[0].serial + "'}}}")
    return 0


def camera_preview(argv: Sequence[str]) -> int:
    """`etude camera preview`: one picture, and the square of it that a policy sees, as small as it gets it."""
    parser = argparse.ArgumentParser(
        prog="etude camera preview",
        description="Write one picture of a robot's camera to a file: whole with the square that a policy sees, and that square "
        "at the task's size. With --crop another square is tried; it is printed as the line for the robot's YAML.",
        epilog="examples:\n  etude camera preview --robot franka_fr3 --camera wrist\n"
        "  etude camera preview --robot franka_fr3 --camera front --crop 120 40 400 --out front.png",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--robot", required=True, help="name of a file in robot_configs/robots, or a YAML file")
    parser.add_argument("--camera", required=True, help="one of the robot's cameras")
    parser.add_argument("--crop", type=int, nargs=3, metavar=("LEFT", "TOP", "SIZE"), help="pixels; default: the robot's own")
    parser.add_argument("--size", type=int, default=64, help="pixels of what the policy sees (default: %(default)s)")
    parser.add_argument("--out", type=Path, help="default: <camera>.png")
    parser.add_argument("--wait", type=float, default=10.0, help="seconds to wait for a picture (default: %(default)s)")
    arguments = parser.parse_args(argv)
    hardware, config = camera_of(arguments.robot, arguments.camera)
    crop = tuple(arguments.crop) if arguments.crop else config.crop_px
    with newest_of(arguments.camera, config, hardware.ros_domain_id) as newest:
        image = wait_for_picture(newest, arguments.camera, config, arguments.wait)
    height, width = image.shape[:2]
    if not fits(image, crop):
        raise ConfigError(f"the crop {list(crop or ())} (left, top, size) reaches beyond the picture of {width}×{height} pixels")
    out = arguments.out or Path(f"{arguments.camera}.png")
    write(out, drawn(image, crop, arguments.size))
    print(f"{out}: {arguments.camera}, {width}×{height} pixels; right of it what a policy of {arguments.size} pixels sees")
    if arguments.crop:
        print(f"in the robot's YAML, under cameras, {arguments.camera}:  crop_px: {list(arguments.crop)}")
    return 0


def camera_of(robot: str, name: str) -> tuple[FrankaConfig, CameraConfig]:
    """Raises ConfigError for a robot without that camera."""
    config = build(RobotConfig, read_named("robots", robot), robot)
    cameras = {camera: arm for arm in config.frankas.values() for camera in arm.cameras}
    if name not in cameras:
        raise ConfigError(
            f"robot {robot!r} has no camera {name!r} of its own; it has {', '.join(sorted(cameras)) or 'none (is it simulated?)'}"
        )
    return cameras[name], cameras[name].cameras[name]


@contextmanager
def newest_of(name: str, config: CameraConfig, ros_domain_id: int) -> Iterator[Callable[[], tuple[Picture | None, str]]]:
    """A function that tells the newest picture of a camera and its trouble, as long as the context lasts."""
    if config.realsense is not None:
        from actor.cameras.realsense import RealSense

        camera: Camera = RealSense(config.realsense)
        try:
            yield lambda: (camera.newest(), camera.trouble())
        finally:
            camera.close()
        return
    import rclpy
    from rclpy.executors import SingleThreadedExecutor

    from actor.cameras.ros_image import RosImages

    context = rclpy.Context()
    rclpy.init(args=[], context=context, domain_id=ros_domain_id)
    node = rclpy.create_node("etude_camera_preview", context=context)
    images, executor = RosImages(node, {name: config}), SingleThreadedExecutor(context=context)
    executor.add_node(node)

    def heard() -> tuple[Picture | None, str]:
        executor.spin_once(timeout_sec=0.05)
        return images.pictures().get(name), f"nothing is heard on {config.topic} in ROS domain {ros_domain_id}"

    try:
        yield heard
    finally:
        rclpy.shutdown(context=context)


def wait_for_picture(
    newest: Callable[[], tuple[Picture | None, str]], name: str, config: CameraConfig, at_most_s: float
) -> np.ndarray:
    """The first picture. Raises ConfigError with the camera's own word when none comes."""
    until = time.monotonic() + at_most_s
    trouble = ""
    while time.monotonic() < until:
        picture, trouble = newest()
        if picture is not None and picture.image.size:
            return picture.image
        time.sleep(0.02)
    raise ConfigError(f"camera {name} showed no picture within {at_most_s:g} s: {trouble or 'it gives no reason'}")


def drawn(image: np.ndarray, crop: tuple[int, ...] | None, size_px: int) -> np.ndarray:
    """`image` with the square drawn into it, and right of it what a policy sees, enlarged without smoothing; BGR."""
    import cv2

    height, width = image.shape[:2]
    side = min(height, width)
    left, top, side = crop or ((width - side) // 2, (height - side) // 2, side)
    whole = np.ascontiguousarray(image[:, :, ::-1])
    cv2.rectangle(whole, (left, top), (left + side - 1, top + side - 1), FRAME_BGR, max(1, height // 160))
    seen = as_seen(image, size_px, (left, top, side))[:, :, ::-1]
    return np.hstack([whole, cv2.resize(np.ascontiguousarray(seen), (height, height), interpolation=cv2.INTER_NEAREST)])


def write(path: Path, picture: np.ndarray) -> None:
    import cv2

    if not cv2.imwrite(str(path), picture):
        raise ConfigError(f"cannot write {path}: is its folder there, and does its name end in .png or .jpg?")
