"""The language of BlueKing's node manager (HTTP 200, and the code tells)."""
