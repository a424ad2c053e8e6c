"""One module for each figure; each has ``async def measure(stage) -> Figure``."""
