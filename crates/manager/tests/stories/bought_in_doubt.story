# No answer came. It is looked for before anything is concluded.
estate db offering=bought
ended open db ok
# It was made all the same: it is used.
ended provision db-1 lost
status
ended observe db-1 ok
ended start db-1 lost
ended observe db-1 ok
# The credentials that came with the lost answer are nobody's: others are asked for, and then the first are ended.
ended start db-1 ok
probe db-1 ready
ended tidy db/db ok
auto on
status
