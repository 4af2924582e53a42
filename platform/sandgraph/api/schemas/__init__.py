"""What clients send and get, as strict schemas; they are not the domain's classes, nor the store's tables."""

from sandgraph.api.schemas.graph import parse_graph

__all__ = ["parse_graph"]
