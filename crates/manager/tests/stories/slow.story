# Who is slow is given time before it is restarted; who hangs is not.
auto on
estate web instances=3
auto off
probe web-1 slow
probe web-2 hung
probe web-3 silent
tick 2s
tick 1m
status
