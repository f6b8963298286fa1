# What fails because of its need is left alone, and starts at once when the need is back, whatever it failed before.
auto on
estate db offering=redis; web needs=db instances=2
crashing db
die db-1 spent
crashing web
die web-1 spent
die web-2 spent
tick 30s
status
mended web
tick 1m
mended db
tick 2m
status
