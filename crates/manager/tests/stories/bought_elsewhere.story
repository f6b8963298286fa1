# What a provider has already is taken over, and what ostler has is left to its provider.
estate db offering=bought adopt=X-1; web
ended open db ok
ended observe db-1 ok
auto on
status
ask adopt web here X-2
ask adopt db acme X-2
# Another one beside it would have other data.
ask adopt db here X-2
ask release db
auto off
estate db offering=bought adopt=X-1; other offering=bought; web
ended open other ok
ended provision other-1 unclear
# A person knows better: it is ours, from another life.
ask adopt other here X-1
ask adopt other here X-3
status
auto on
status
# Taken out of the file, it is kept; released, it is its provider's.
estate web
ask release db
ask settle other-1/1 release
ask release other
status
