"""The data store of a trading bot, and of the people who study what it did."""
