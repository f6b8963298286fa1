# A canary that does not become ready is taken back at once; the version is not tried again, except by a person.
auto on
offers web 1.0
estate upgrade soak=1m; web instances=3
offers web 1.0,1.1
status
flawed web 1.1 never-ready
ask upgrade web
tick 2m
status
tick 1h
offers web 1.0,1.1,1.2
flawed web 1.2 broken
ask upgrade
tick 3m
status
flawed web 1.2 mended
ask upgrade web to 1.2
tick 4m
status
ask rollback web
tick 1m
status
