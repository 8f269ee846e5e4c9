"""Deploy form, ONNX files, the exported model in use, live recognition, and the web page (page/)."""
