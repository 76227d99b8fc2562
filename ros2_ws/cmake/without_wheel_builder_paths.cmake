# Read by every project() call when the interfaces are built against the ROS wheels
# (-DCMAKE_PROJECT_INCLUDE=<this file>; not used with a system ROS).
#
# The wheels' imported targets list include folders below /opt/python, where the wheels were made and which exist nowhere
# else; CMake refuses an imported target with a missing include folder. FindPython3 adds the true folders by itself, so
# the foreign ones are taken out once the project has been read, just before generation.
if(COMMAND etude_drop_wheel_builder_paths)
  return()
endif()

function(etude_drop_wheel_builder_paths)
  get_property(imported DIRECTORY PROPERTY IMPORTED_TARGETS)
  foreach(name IN LISTS imported)
    get_target_property(folders ${name} INTERFACE_INCLUDE_DIRECTORIES)
    if(NOT folders)
      continue()
    endif()
    list(FILTER folders EXCLUDE REGEX "^/opt/python/")
    set_property(TARGET ${name} PROPERTY INTERFACE_INCLUDE_DIRECTORIES "${folders}")
  endforeach()
endfunction()

cmake_language(DEFER CALL etude_drop_wheel_builder_paths)
