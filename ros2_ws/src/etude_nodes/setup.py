"""ament_python build of the nodes. `ros2 run etude_nodes <name>` starts one; `etude practice run` starts them all."""

from setuptools import setup

package = "etude_nodes"

setup(
    name=package,
    version="0.1.0",
    packages=[package],
    data_files=[
        ("share/ament_index/resource_index/packages", [f"resource/{package}"]),
        (f"share/{package}", ["package.xml"]),
    ],
    install_requires=["setuptools"],
    zip_safe=True,
    maintainer="Etude maintainers",
    maintainer_email="maintainers@etude.invalid",
    description="Thin rclpy nodes of Etude over its ROS-free Python packages.",
    license="Apache-2.0",
    entry_points={
        "console_scripts": [
            "learner = etude_nodes.learner_node:main",
            "actor = etude_nodes.actor_node:main",
            "dashboard = etude_nodes.dashboard_node:main",
            "teleop = etude_nodes.teleop_node:main",
            "sim_robot = etude_nodes.sim_robot_node:main",
            "sim_franka = etude_nodes.sim_franka_node:main",
            "sim_go1 = etude_nodes.sim_go1_node:main",
            "sim_realsense = etude_nodes.sim_realsense_node:main",
            "safety = etude_nodes.safety_node:main",
        ],
    },
)
