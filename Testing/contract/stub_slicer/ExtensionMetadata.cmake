# Stand-in for the extension configuration: what the extension catalogue shows must be there. URLs of
# pictures may be empty, but not forgotten.
foreach(name HOMEPAGE CATEGORY CONTRIBUTORS DESCRIPTION DEPENDS)
  if(NOT EXTENSION_${name})
    message(FATAL_ERROR "EXTENSION_${name} is not set")
  endif()
endforeach()
foreach(name ICONURL SCREENSHOTURLS)
  if(NOT DEFINED EXTENSION_${name})
    message(FATAL_ERROR "EXTENSION_${name} is not defined")
  endif()
endforeach()
