"""What the library costs, measured: training runs and step times on every device, against
the same steps written by hand. `python -m bench` runs it all; bench/__main__.py says how."""
