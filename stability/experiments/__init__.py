"""One file an experiment; conf/experiment/ names the class."""
