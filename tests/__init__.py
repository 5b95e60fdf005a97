"""A package, since some of what is installed for tests brings a package of this name, too."""
