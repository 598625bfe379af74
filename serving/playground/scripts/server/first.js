// Runs as soon as it is there, before the page is laid out and its other scripts run: asks for what they will need.

import { askAhead } from "./api.js";

askAhead().catch(() => {}); // they hear of it
