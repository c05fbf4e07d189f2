"use strict";

// The address is this page's, whatever prefix or stage is in front of it; the page ends in /docs, so that both are beside it.
window.addEventListener("load", () => {
  SwaggerUIBundle({
    url: new URL("openapi.json", document.baseURI).href,
    oauth2RedirectUrl: new URL("docs/oauth2-redirect", document.baseURI).href,
    dom_id: "#swagger-ui",
    deepLinking: true,
    validatorUrl: null,
  });
});
