"""What is known of the pictures, and the files it is kept in: records, journal, tables; and names."""
