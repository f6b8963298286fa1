# Its pause belongs to the launch: no other instance tries without it.
estate web instances=3 before
ended open web ok
ended provision web-2 ok
ended provision web-3 ok
ended before web-2 temporary
ended observe web-2 ok
ended before web-2 temporary
ended provision web-1 ok
status
tick 1s
ended before web-1 temporary
ended observe web-2 ok
tick 1s
tick 1s
# A question belongs to all of them, too.
ended observe web-1 ok
ended before web-1 person
status
tick 1h
# An answer lets it be tried at once.
ask restart web
ended observe web-1 ok
ended before web-1 ok
