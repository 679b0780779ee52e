"use strict";

// validatorUrl: null, or the page would send the description to a server elsewhere.
SwaggerUIBundle({
  url: "../openapi.json",
  dom_id: "#docs",
  deepLinking: true,
  validatorUrl: null,
  displayRequestDuration: true,
});
