#!/bin/sh
# The last thing a stack does on a machine: the claim in front of this text holds it. Nothing else is to be done.
say "held by $OWNER"
