"""Floor 4, an edge: the browser app. It views the workspace, and starts the command line for what takes long."""
