# What is bought elsewhere is only cut off. Nothing here can take its place, which is what the drill shows.
auto on
estate drill lasts=1m; far offering=bought slo=99%
ask drill far provider-outage
tick 1m
tick 10m
status
ask drill far refuse
tick 10m
