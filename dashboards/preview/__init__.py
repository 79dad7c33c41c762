"""What would a dashboard show? A picture of ours, from queries really executed. It is a preview, not Grafana."""
