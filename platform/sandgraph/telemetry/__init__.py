"""How a platform is watched: logs, metrics, traces. Every part of it may say something here."""
