# Pauses grow, people are told once, and what is mended comes back by itself.
auto on
estate web instances=2
crashing web
tick 1s
tick 30s
status
tick 2m
mended web
tick 5m
status
