# A version that is skipped is not put to use, and the next best is; at the end it is, also if the end came while ostler was
# away.
auto on
offers web 1.0
estate upgrade by-itself soak=1m; web instances=2
ask override skip web 1.2 by Ada for 1h
offers web 1.0,1.1,1.2
tick 10m
status
ask upgrade web
offers web 1.0,1.1,1.2,1.3
tick 10m
ask override skip web by Ada for 1h
offers web 1.0,1.1,1.2,1.3,1.4,1.5
status
resume started
tick 2h
status
