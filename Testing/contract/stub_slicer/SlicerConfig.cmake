# Stand-in for the SlicerConfig.cmake of a Slicer build: what find_package(Slicer) gives an extension.
# Written for the packaging test; paths are those of an installed extension of Slicer 5.12.
get_filename_component(Slicer_CMAKE_DIR ${CMAKE_CURRENT_LIST_FILE} DIRECTORY)
set(Slicer_FOUND TRUE)
set(Slicer_USE_FILE ${Slicer_CMAKE_DIR}/UseSlicer.cmake)
set(Slicer_EXTENSION_GENERATE_CONFIG ${Slicer_CMAKE_DIR}/ExtensionMetadata.cmake)
set(Slicer_EXTENSION_CPACK ${Slicer_CMAKE_DIR}/ExtensionCPack.cmake)
set(Slicer_QTSCRIPTEDMODULES_LIB_DIR lib/Slicer-5.12/qt-scripted-modules)
set(Slicer_INSTALL_QTSCRIPTEDMODULES_LIB_DIR ${Slicer_QTSCRIPTEDMODULES_LIB_DIR})
