# Somebody else has the address: tried again with growing pauses, and shown.
estate web endpoint=8080
ended open web temporary
status
tick 1s
ended open web temporary
tick 1s
tick 1s
ended open web temporary
# Who gives the same file again may have freed the address: at once.
estate web endpoint=8080
ended open web temporary
# Who gives another file has changed something: at once.
estate web endpoint=8080 env=blue
ended open web temporary
tick 1s
ended open web ok
status
# It runs, and nobody can reach it: that is a failure.
auto on
tick 1s
auto off
resume started
ended open web temporary
ended observe web-1 ok
probe web-1 ready
status
ask restart web
ended open web ok
