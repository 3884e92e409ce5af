"""The parts that all command lines of kvlease share: arguments, exit statuses, progress, tables and files."""
