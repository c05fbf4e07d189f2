"""What drills share: real server processes, a balancer in front of them, and a record of what their nodes did."""
