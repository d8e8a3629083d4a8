# Stand-in for packaging: the test looks at the installed tree, not at an archive.
