# Somebody buys a database here, uses it, has it changed, and gives it back. The estate file says nothing of it.
estate selling=2; web
auto on
tick 1s
sell db offering=redis plan=small
status
admit app to db
# The same again is nothing new.
sell db offering=redis plan=small
admit app to db
# The file is given again: what others bought stays.
estate selling=2; web
# A process of it dies, and is healed as everything is.
die sold-db-1
status
sell db offering=redis plan=large
# Two are all that may be sold.
sell other offering=redis
sell third offering=redis
sell db offering=nothing
# Ostler stops, and starts again.
ask down
status
estate selling=2; web
resume started
status
# A guest leaves, then what was bought is given back, with the other guest.
admit second to db
end guest-app
end sold-db
end sold-db
status
# A person can end a sale by name.
ask delete sold-other
status
# What was not sold cannot be given back, nor used.
end web
admit app to db
