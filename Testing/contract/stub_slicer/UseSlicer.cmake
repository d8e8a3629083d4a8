# Stand-in for Slicer's slicerMacroBuildScriptedModule: scripts are copied into the flat folder of
# scripted modules, WITH_SUBDIR into a subfolder named after the current source folder.
function(slicerMacroBuildScriptedModule)
  cmake_parse_arguments(STUB "WITH_GENERIC_TESTS;WITH_SUBDIR;VERBOSE" "NAME" "SCRIPTS;RESOURCES" ${ARGN})
  if(STUB_UNPARSED_ARGUMENTS OR NOT STUB_NAME)
    message(FATAL_ERROR "slicerMacroBuildScriptedModule: wrong arguments '${ARGN}'")
  endif()
  set(subfolder "")
  if(STUB_WITH_SUBDIR)
    get_filename_component(subfolder ${CMAKE_CURRENT_SOURCE_DIR} NAME)
    string(PREPEND subfolder "/")
  endif()
  set(copies "")
  foreach(file IN LISTS STUB_SCRIPTS STUB_RESOURCES)
    set(source ${CMAKE_CURRENT_SOURCE_DIR}/${file})
    if(NOT EXISTS ${source})
      message(FATAL_ERROR "${STUB_NAME} lists '${file}', which does not exist")
    endif()
    set(copy ${CMAKE_BINARY_DIR}/${Slicer_QTSCRIPTEDMODULES_LIB_DIR}${subfolder}/${file})
    add_custom_command(
      OUTPUT ${copy}
      DEPENDS ${source}
      COMMAND ${CMAKE_COMMAND} -E copy ${source} ${copy}
      )
    list(APPEND copies ${copy})
    get_filename_component(folder ${file} DIRECTORY)
    install(
      FILES ${copy}
      DESTINATION ${Slicer_INSTALL_QTSCRIPTEDMODULES_LIB_DIR}${subfolder}/${folder}
      )
  endforeach()
  add_custom_target(Copy${STUB_NAME} ALL DEPENDS ${copies})
endfunction()

# Slicer builds its extensions with CTest's BUILD_TESTING.
include(CTest)

# Stand-in for slicer_add_python_unittest: one test py_<script>, which in Slicer runs the script's
# <script>Test with the build's Slicer. There is no Slicer here, so the command only names it.
function(slicer_add_python_unittest)
  cmake_parse_arguments(STUB "" "SCRIPT;TESTNAME_PREFIX" "SLICER_ARGS" ${ARGN})
  if(STUB_UNPARSED_ARGUMENTS OR NOT STUB_SCRIPT)
    message(FATAL_ERROR "slicer_add_python_unittest: wrong arguments '${ARGN}'")
  endif()
  get_filename_component(name ${STUB_SCRIPT} NAME_WE)
  file(STRINGS ${CMAKE_CURRENT_SOURCE_DIR}/${STUB_SCRIPT} test_class REGEX "^class ${name}Test\\(")
  if(NOT test_class)
    message(FATAL_ERROR "${STUB_SCRIPT} has no class ${name}Test")
  endif()
  add_test(
    NAME py_${STUB_TESTNAME_PREFIX}${name}
    COMMAND ${CMAKE_COMMAND} -E echo ${CMAKE_CURRENT_SOURCE_DIR}/${STUB_SCRIPT}
    )
endfunction()
