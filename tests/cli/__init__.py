"""What people and programs are told: report, command line, demo."""
