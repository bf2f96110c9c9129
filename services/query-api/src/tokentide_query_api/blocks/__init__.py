"""The 5-hour and weekly windows of subscriptions: what was used in them, and where the active one leads."""
