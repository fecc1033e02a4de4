#!/bin/sh
# The last thing a stack does on a machine, which the claim in front of this text has taken.
own held
say "held by $OWNER"
