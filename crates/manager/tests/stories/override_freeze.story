# Nothing is begun in a freeze, and what fails is healed; a person's own word goes before it only with a reason.
auto on
offers web 1.0
estate upgrade by-itself soak=1m; web instances=2; app
ask override freeze by Ada for 1h
offers web 1.0,1.1
status
hang app-1
tick 1m
ask upgrade
ask upgrade web
tick 2h
status
ask override freeze web by Ada for 1h
offers web 1.0,1.1,1.2
ask upgrade web despite it is urgent
tick 10m
status
