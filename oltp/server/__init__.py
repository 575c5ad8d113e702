"""The PostgreSQL server: the embedded one, connections, and what the driver's errors mean."""
