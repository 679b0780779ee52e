"""The pages: views of the same API and log, for people. They work as plain HTML; live.js keeps them true."""
