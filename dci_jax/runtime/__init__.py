"""Devices, processes, files and loops: what every part runs on."""
