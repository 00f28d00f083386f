"""Measurements that `make bench` prints and keeps."""
