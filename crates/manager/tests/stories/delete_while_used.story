# A part of what is deleted is gone, and with it the binding; the rest waits until nothing runs with it any more.
auto on
estate db instances=2; web needs=db
auto off
die db-1 spent
ended start db-1 temporary
estate web
ask delete db
ended observe db-1 ok
ended delete db-1 ok
ended stop web-1 ok
ended stop db-2 ok
ended delete db-2 ok
