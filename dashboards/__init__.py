"""The Streamlit app: draws the records of a workspace, computes nothing, changes nothing."""
