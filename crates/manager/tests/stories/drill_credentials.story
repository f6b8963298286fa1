# Credentials that were ended are made anew: by the remedy, and if that does not come, when the drill is over or ostler
# is back.
auto on
estate drill lasts=1m; db offering=redis; web needs=db slo=99.9%; far offering=bought
tick 10m
ask drill far wrong-credentials
ask drill web wrong-credentials
auto off
ask drill db wrong-credentials
ended cause db ok
probe web-1 shallow
verified web/db rejected
auto on
tick 20s
# Not again so soon: the remedy would not come.
ask drill db wrong-credentials
tick 10m
auto off
ask drill db wrong-credentials
ended cause db ok
resume started
auto on
tick 10s
status
# Nobody looks.
ask drill db wrong-credentials
tick 2m
status
