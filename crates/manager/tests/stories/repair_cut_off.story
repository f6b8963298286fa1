# A repair that was cut off has lost its place among those that may be at once, also where it was done after all.
auto on
estate at-once=1; web instances=2
auto off
die web-1 spent
ended start web-1 cut-off
die web-2 spent
ask restart web
ended observe web-1 ok
ended start web-2 ok
