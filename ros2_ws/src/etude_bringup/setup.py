"""ament_python build of the launch files and their run configurations."""

from glob import glob

from setuptools import setup

package = "etude_bringup"

setup(
    name=package,
    version="0.1.0",
    packages=[package],
    data_files=[
        ("share/ament_index/resource_index/packages", [f"resource/{package}"]),
        (f"share/{package}", ["package.xml"]),
        (f"share/{package}/launch", sorted(glob("launch/*.launch.py"))),
        (f"share/{package}/config", sorted(glob("config/*.yaml"))),
    ],
    install_requires=["setuptools"],
    zip_safe=True,
    maintainer="Etude maintainers",
    maintainer_email="maintainers@etude.invalid",
    description="Launch files and run configurations of Etude for a system ROS 2.",
    license="Apache-2.0",
    entry_points={"console_scripts": ["prepare_run = etude_bringup.prepare_run:main"]},
)
