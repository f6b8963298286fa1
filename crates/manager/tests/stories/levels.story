# How well a service has served, and that people are told when it uses up too fast what may go wrong.
auto on
estate web slo=99.9% endpoint=8080
tick 1h
status
# It answers no more, and is restarted: until it is ready again it is away, and people are told.
auto off
probe web-1 unready
tick 90s
status
auto on
tick 10m
status
# Callers get nothing from an instance that is ready.
served web 60s 1000 100
served web 60s 1000 900
tick 2h
status
# ostler is away for an hour: the process has run on, so it is known to have served.
auto off
tick 1h
resume started
auto on
tick 1m
status
# The same, and the process is another one: what was before, nobody knows.
auto off
tick 1h
die web-1 unreported
resume started
auto on
tick 1m
status
# Stopped by a person it is not away.
ask down
tick 1h
status
