# The robot computer: ROS 2 Jazzy, franka_ros2 with CRISP's controllers, realsense-ros, and the actor. No training code.
# Build from the repository's root:  docker compose -f docker/compose.yaml build actor
# hadolint global ignore=DL3008
#   (versions of Debian packages follow the pinned base image; ROS's repository keeps only the newest anyway)
FROM ros:jazzy-ros-base-noble AS controllers

SHELL ["/bin/bash", "-o", "pipefail", "-c"]
ENV DEBIAN_FRONTEND=noninteractive
ARG FRANKA_ROS2=v3.4.1
# CRISP has no release for every ROS distribution: name the commit that was tried on your arm
ARG CRISP_CONTROLLERS=main

RUN apt-get update && apt-get install -y --no-install-recommends git python3-vcstool \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /controllers
RUN git clone --depth 1 --branch "$FRANKA_ROS2" https://github.com/frankarobotics/franka_ros2.git src/franka_ros2 \
    && git clone https://github.com/utiasDSL/crisp_controllers.git src/crisp_controllers \
    && git -C src/crisp_controllers checkout "$CRISP_CONTROLLERS" \
    && vcs import src < src/franka_ros2/dependency.repos --recursive --skip-existing
# simulators and MoveIt are not for a robot computer
RUN rm -rf src/franka_ros2/franka_gazebo src/franka_ros2/franka_fr3_moveit_config \
    && apt-get update && rosdep update --rosdistro jazzy \
    && rosdep install --from-paths src --ignore-src --rosdistro jazzy -y \
    && . /opt/ros/jazzy/setup.bash \
    && colcon build --merge-install --install-base /opt/controllers --cmake-args -DCMAKE_BUILD_TYPE=Release -DBUILD_TESTING=OFF \
    && rm -rf /var/lib/apt/lists/* build log

FROM controllers AS actor
RUN apt-get update && apt-get install -y --no-install-recommends \
        ros-jazzy-realsense2-camera ros-jazzy-rmw-zenoh-cpp python3-venv libegl1 libgl1 libusb-1.0-0 cmake g++ \
    && rm -rf /var/lib/apt/lists/*
# "video" and "plugdev" open cameras, "input" opens teleoperation devices, "realtime" may ask for real-time priorities
RUN groupadd --force realtime && groupadd --force plugdev \
    && useradd --create-home --uid 1001 --groups video,plugdev,input,realtime etude
WORKDIR /etude
RUN chown etude:etude /etude
USER 1001

# Packages first, so that a change of the code does not install them again
COPY --chown=etude:etude requirements requirements
RUN python3 -m venv --system-site-packages .venv \
    && .venv/bin/pip install --no-cache-dir -r requirements/base.txt pyrealsense2==2.59.1.11053 \
    && echo system > .venv/etude-ros-mode
COPY --chown=etude:etude pyproject.toml LICENSE ./
COPY --chown=etude:etude config config
COPY --chown=etude:etude etude etude
COPY --chown=etude:etude actor actor
COPY --chown=etude:etude reward_classifiers reward_classifiers
COPY --chown=etude:etude simulation simulation
COPY --chown=etude:etude robot_configs robot_configs
COPY --chown=etude:etude tools tools
COPY --chown=etude:etude ros2_ws/src ros2_ws/src
COPY --chown=etude:etude ros2_ws/cmake ros2_ws/cmake
COPY --chown=etude:etude docker/entrypoint.sh docker/entrypoint.sh
RUN . /opt/ros/jazzy/setup.bash && . /opt/controllers/setup.bash && docker/entrypoint.sh build

VOLUME ["/etude/runs", "/etude/data"]
ENTRYPOINT ["docker/entrypoint.sh"]
CMD ["actor"]
