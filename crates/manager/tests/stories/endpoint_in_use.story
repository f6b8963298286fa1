# Somebody else has the address: tried again, and shown.
estate web endpoint=8080
ended open web temporary
status
tick 1s
tick 1s
ended open web ok
status
