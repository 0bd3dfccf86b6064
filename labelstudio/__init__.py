"""Our records on one side, Label Studio on the other: tasks, the only API client, servers, rounds."""
