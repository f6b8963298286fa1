# Trying again cannot help: it waits for an answer.
estate web
ended open web ok
ended provision web-1 person
status
tick 24h
auto on
ask restart web
status
