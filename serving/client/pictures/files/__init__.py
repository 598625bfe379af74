"""PNG and JPEG files as bytes: their headers as an export's graph reads them, their pixels, what is wrong with them."""
